CREATE TYPE role_name AS ENUM (
    'admin', 'collaborator', 'limited_collaborator', 'viewer'
);
