-- The rows of Django that have come over, by the id that follows from where they come from. What has come over once does not
-- come again, whatever became of it here.
CREATE TABLE django_rows (
    row_id UUID PRIMARY KEY
);
