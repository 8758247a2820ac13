"""Files, URLs, memory, threads, processes: what does not know what it is used for."""
