CREATE INDEX IF NOT EXISTS device_auth_request_by_time_expires
    ON device_auth_request (time_expires);
