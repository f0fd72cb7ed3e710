CREATE TYPE disk_state AS ENUM (
    'creating', 'ready', 'import_ready', 'importing_from_bulk_writes',
    'finalizing', 'faulted'
);
