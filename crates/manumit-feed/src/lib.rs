//! manumit-feed
