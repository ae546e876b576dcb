"""One module per revision, oldest first by number. No revision 0004 was ever written: 0005 follows 0003."""
