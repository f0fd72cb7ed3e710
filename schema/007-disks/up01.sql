CREATE TYPE disk_backend AS ENUM ('local', 'distributed');
