//! Counts with their nouns, so that no sentence reads "1 attempts".

/// A count with its noun in the right form: `1 attempt`, `2 attempts`. Callers pass the singular of
/// a noun that forms its plural with `s`.
#[must_use]
pub fn plural(count: impl TryInto<u64>, noun: &str) -> String {
    // A negative or oversized count is certainly not 1.
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plural_uses_the_singular_only_for_one() {
        assert_eq!(plural(0_u32, "attempt"), "0 attempts");
        assert_eq!(plural(1_usize, "attempt"), "1 attempt");
        assert_eq!(plural(2_i64, "attempt"), "2 attempts");
    }
}
