"""What the HTTP edge and the worker share: tables, all SQL, blobs, archives, errors. No torch."""
