//! Images in what an agent's tools return. The transcript is text: it names the kind and the size of an
//! image, and the tool's title the file.

/// An image in one line, from its media type and its data in base64.
pub(crate) fn summary(media_type: &str, base64: &str) -> String {
    let padding = base64.bytes().rev().take(2).filter(|byte| *byte == b'=').count();
    let bytes = (base64.len() / 4 * 3).saturating_sub(padding);
    let kind = if media_type.is_empty() { "unknown kind" } else { media_type };
    match bytes {
        0..1024 => format!("[image: {kind}, {bytes} B]"),
        _ => format!("[image: {kind}, {} KiB]", bytes.div_ceil(1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_is_named_with_its_size() {
        assert_eq!(summary("image/png", "aGVsbG8="), "[image: image/png, 5 B]");
        assert_eq!(summary("", &"A".repeat(8192)), "[image: unknown kind, 6 KiB]");
    }
}
