//! weir-dialects
