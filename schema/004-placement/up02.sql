CREATE TYPE affinity_policy AS ENUM ('allow', 'fail');
