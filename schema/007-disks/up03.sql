CREATE TYPE blocks_place AS ENUM ('store', 'local');
