//! manumit-io
