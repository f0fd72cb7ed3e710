CREATE TYPE intended_state AS ENUM (
    'running', 'stopped', 'guest_shutdown', 'destroyed'
);
