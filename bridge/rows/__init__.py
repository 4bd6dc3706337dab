"""Reading and writing the store's rows: functions over a connection, one file a topic.

They run in the store's threads, inside a transaction that the store began.
"""
