-- From a vector to the chunks that have its text: a search by vectors goes this way.
CREATE INDEX chunk_content_hash ON chunk (content_hash);
