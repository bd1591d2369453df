"""Training data: tokenised records in batches that can be resumed by number."""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from keras_attn.training.data.bucketed_dataset import BucketedDataset
    from keras_attn.training.data.callable_tokenizer import CallableTokenizer
    from keras_attn.training.data.data_summary import DataSummary
    from keras_attn.training.data.dataset import Dataset
    from keras_attn.training.data.labelled_text_dataset import LabelledTextDataset
    from keras_attn.training.data.parallel_text_dataset import ParallelTextDataset
    from keras_attn.training.data.records import Records
    from keras_attn.training.data.text_dataset import TextDataset
    from keras_attn.training.data.token_block_dataset import TokenBlockDataset
else:
    __getattr__, __dir__ = lazy(__name__, HOMES)

__all__ = [
    "BucketedDataset",
    "CallableTokenizer",
    "DataSummary",
    "Dataset",
    "LabelledTextDataset",
    "ParallelTextDataset",
    "Records",
    "TextDataset",
    "TokenBlockDataset",
]
