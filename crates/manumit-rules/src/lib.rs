//! manumit-rules
