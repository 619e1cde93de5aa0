//! The page with the figures: `docs/performance.md`.

use std::path::Path;

const BEGIN: &str = "<!-- figures: begin; everything up to the end is generated -->";
const END: &str = "<!-- figures: end -->";

/// Replaces the figures on the page.
pub(crate) fn write(figures: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let page = replaced(&page, figures).ok_or_else(|| format!("no `{BEGIN}` .. `{END}` in {}", path.display()))?;
    std::fs::write(&path, page).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn replaced(page: &str, figures: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", figures.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_between_the_markers_is_replaced() {
        let page = format!("guide\n{BEGIN}\nold\n{END}\nmore\n");
        assert_eq!(replaced(&page, "new\n"), Some(format!("guide\n{BEGIN}\n\nnew\n\n{END}\nmore\n")));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
