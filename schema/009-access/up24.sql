CREATE TABLE IF NOT EXISTS audit_log (
    id UUID PRIMARY KEY,
    time_started TIMESTAMPTZ NOT NULL,
    time_completed TIMESTAMPTZ,
    request_id VARCHAR(63) NOT NULL,
    operation_id VARCHAR(255) NOT NULL,
    request_uri VARCHAR(1024) NOT NULL,
    source_ip VARCHAR(45) NOT NULL,
    user_agent VARCHAR(255),
    silo_id UUID,
    silo_user_id UUID,
    auth_method auth_method,
    credential_id UUID,
    resource_id UUID,
    http_status INT8,
    error_code VARCHAR(63),
    error_message VARCHAR(1024),
    CONSTRAINT audit_log_actor_whole CHECK (
        (silo_id IS NULL) = (silo_user_id IS NULL)
        AND (silo_id IS NULL) = (auth_method IS NULL)
        AND (silo_id IS NULL) = (credential_id IS NULL)),
    CONSTRAINT audit_log_result_after_completion CHECK (
        time_completed IS NOT NULL OR http_status IS NULL),
    CONSTRAINT audit_log_error_has_a_status CHECK (
        http_status IS NOT NULL
        OR (error_code IS NULL AND error_message IS NULL))
);
