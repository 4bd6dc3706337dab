"""The conformance kit: plays one end of the protocol and judges the other.

It goes clause by clause, from the bytes that come (``freefloat conformance``).
"""
