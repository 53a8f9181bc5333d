-- Generations of an index that all processes share. Their names are never used twice, so that what is written late
-- into one that is gone is in nobody's way.
CREATE SEQUENCE generation_number;
ALTER TABLE generation ADD COLUMN retired_at timestamptz;
