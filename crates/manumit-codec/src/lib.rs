//! manumit-codec
