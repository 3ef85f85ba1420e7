//! weir-ingestor
