CREATE TYPE affinity_group_kind AS ENUM ('affinity', 'anti_affinity');
