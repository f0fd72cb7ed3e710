ALTER TABLE instance ADD COLUMN IF NOT EXISTS intended_state intended_state;
