CREATE INDEX IF NOT EXISTS role_assignment_by_user
    ON role_assignment (silo_user_id);
