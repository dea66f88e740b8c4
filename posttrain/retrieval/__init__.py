"""Finding the passages that a question needs. A retriever is `search(query, k) -> list[Passage]`, best first.

- `documents`   files to texts, each with the hash of its content
- `chunk`       texts to passages that know where they stand
- `tfidf`  `bm25`  `dense`   three ways to rank passages in memory
- `fuse`  `rerank`           retrievers made of retrievers
- `store`  `lines`            passages on disk, in versions: with vectors and full text by LanceDB, or as plain lines
- `ledger`  `index`           a folder of documents, kept in a store as they change
- `metrics`     recall, nDCG and MRR against known answers
"""
