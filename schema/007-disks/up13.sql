ALTER TABLE disk ADD CONSTRAINT disk_block_size
    CHECK (block_size IN (512, 2048, 4096));
