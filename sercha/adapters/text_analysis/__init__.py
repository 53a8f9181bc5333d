"""How words are made of texts and queries, the same for every engine.

So a document is found by one engine exactly where it is found by the other, whatever their own analysers do.
"""
