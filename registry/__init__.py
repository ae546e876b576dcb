"""What the HTTP edge and the worker share: tables, all SQL, blobs, archives, the job contract, errors. No torch."""
