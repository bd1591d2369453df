"""Training data: records of files, tokenised, in batches whose place is a number."""

from keras_attn.lazy import lazy

HOMES = {
    "bucketed_dataset": "BucketedDataset",
    "callable_tokenizer": "CallableTokenizer",
    "data_summary": "DataSummary",
    "dataset": "Dataset",
    "labelled_text_dataset": "LabelledTextDataset",
    "parallel_text_dataset": "ParallelTextDataset",
    "records": "Records",
    "text_dataset": "TextDataset",
    "token_block_dataset": "TokenBlockDataset",
}

__getattr__, __dir__ = lazy(__name__, HOMES)
__all__ = list(HOMES.values())
