CREATE TYPE sled_cpu AS ENUM ('unknown', 'amd_milan', 'amd_turin');
