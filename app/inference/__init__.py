"""Questions to served models: classify, embed, stored label sets, and the interfaces of other servers."""
