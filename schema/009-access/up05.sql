CREATE TYPE role_resource AS ENUM ('fleet', 'silo', 'project');
