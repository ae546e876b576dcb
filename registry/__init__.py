"""What the HTTP edge and the worker share, without torch: tables, all SQL, blobs, archives, the job contract, errors."""
