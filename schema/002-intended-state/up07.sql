ALTER TABLE instance ALTER COLUMN intended_state SET NOT NULL;
