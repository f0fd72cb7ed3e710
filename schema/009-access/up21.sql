CREATE UNIQUE INDEX IF NOT EXISTS device_auth_request_device_code
    ON device_auth_request (device_code_hash);
