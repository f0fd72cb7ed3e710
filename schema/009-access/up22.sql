CREATE UNIQUE INDEX IF NOT EXISTS device_auth_request_user_code
    ON device_auth_request (user_code);
