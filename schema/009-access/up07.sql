CREATE TYPE auth_method AS ENUM ('session_cookie', 'access_token');
