"""Private keys that sign, wherever they lie: a file, or a PKCS#11 token.

A key in a token (HSM, smart card, secure element) is used and never read
(reliability.md K2). It is named by a URI (RFC 7512) wherever a key file is named, or by
a file that holds the URI and nothing else. Both kinds are objects of `cryptography`'s
own key interfaces, so that certificates and frames are signed by either alike.
"""
