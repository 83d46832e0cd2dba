"""Jobs of many images: repeatable shards, run by local processes or by Ray."""
