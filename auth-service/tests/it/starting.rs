//! A start that can't work fails with a sentence.
