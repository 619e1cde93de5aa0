//! [`Report::to_mermaid`].

use std::fmt::{self, Write as _};

use super::graph::{Graph, Node, PaceMark, Shape};
use super::visible;
use crate::pipeline::Report;

impl Report {
    /// Draws the pipeline in the language of [Mermaid](https://mermaid.js.org), which GitHub and many wikis render.
    ///
    /// Each stage is a node with its name, threads, counts and shares of time, and with its latency if that is
    /// recorded. Each output is an arrow to the stage that reads it, with the name of the branch, and the number of
    /// queued items out of its capacity. Nodes come in topological order. The following are marked:
    ///
    /// - the [bottleneck](Report::bottleneck), filled in orange;
    /// - if there is none: the slowest source, or the stage that waits for its consumer, in blue;
    /// - a stage that waits for room at the time of the report, with a red frame, and the output that it waits for, as a thick
    ///   red arrow;
    /// - an output that no stage of the report reads, with a dashed box at its end. A caller may receive from it.
    ///
    /// The text is the content of a Mermaid block (three backticks and `mermaid`). It is the same for equal reports.
    /// Names may contain any character: those with a meaning in Mermaid or HTML are escaped, and control characters are
    /// replaced by visible ones.
    ///
    /// # Examples
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("squares");
    /// Stream::from_iter(&pipeline, 1..=3).map(|n: u32| n * n).spawn_for_each(drop);
    /// let picture = pipeline.join().to_mermaid();
    /// assert!(picture.starts_with("flowchart LR\n"), "{picture}");
    /// assert!(picture.contains("s1[\"map<br/>3 in, 3 out"), "{picture}");
    /// ```
    pub fn to_mermaid(&self) -> String {
        Mermaid(Graph::of(self)).to_string()
    }
}

struct Mermaid(Graph);

impl fmt::Display for Mermaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Graph { title, nodes, links } = &self.0;
        writeln!(f, "flowchart LR")?;
        writeln!(f, "    subgraph pipeline[\"{}\"]", escaped(title))?;
        writeln!(f, "    direction LR")?;
        for node in nodes {
            let (open, close) = brackets(node.shape);
            writeln!(f, "    s{}{open}\"{}\"{close}", node.id, text(&node.lines))?;
        }
        writeln!(f, "    end")?;
        for link in links {
            let arrow = if link.is_blocking { "==>" } else { "-->" };
            let label = if link.lines.is_empty() { String::new() } else { format!("|\"{}\"|", text(&link.lines)) };
            writeln!(f, "    s{} {arrow}{label} s{}", link.from, link.to)?;
        }
        writeln!(f, "    style pipeline fill:none")?;
        writeln!(f, "    classDef bottleneck fill:#ffd8a8,color:#000")?;
        writeln!(f, "    classDef waiting stroke:#e03131,stroke-width:3px")?;
        writeln!(f, "    classDef outside stroke-dasharray:4")?;
        let marked = |class, is_marked: fn(&Node) -> bool| Marked { class, nodes, is_marked };
        write!(f, "{}", marked("bottleneck", |node| node.pace == Some(PaceMark::Bottleneck)))?;
        let is_slow = |node: &Node| matches!(node.pace, Some(PaceMark::SlowSource | PaceMark::SlowConsumer));
        if nodes.iter().any(is_slow) {
            writeln!(f, "    classDef slow fill:#d0ebff,color:#000")?;
        }
        write!(f, "{}", marked("slow", is_slow))?;
        write!(f, "{}", marked("waiting", |node| node.is_waiting))?;
        write!(f, "{}", marked("outside", |node| node.shape == Shape::Outside))?;
        for (index, _) in links.iter().enumerate().filter(|(_, link)| link.is_blocking) {
            writeln!(f, "    linkStyle {index} stroke:#e03131")?;
        }
        Ok(())
    }
}

/// The line that assigns a class to nodes, if there are any.
struct Marked<'a> {
    class: &'a str,
    nodes: &'a [Node],
    is_marked: fn(&Node) -> bool,
}

impl fmt::Display for Marked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> =
            self.nodes.iter().filter(|node| (self.is_marked)(node)).map(|node| format!("s{}", node.id)).collect();
        if ids.is_empty() { Ok(()) } else { writeln!(f, "    class {} {}", ids.join(","), self.class) }
    }
}

fn brackets(shape: Shape) -> (&'static str, &'static str) {
    match shape {
        Shape::Terminal => ("(", ")"),
        Shape::Stage | Shape::Outside => ("[", "]"),
        Shape::Task => ("{{", "}}"),
    }
}

fn text(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| escaped(line)).collect();
    lines.join("<br/>")
}

/// Escapes a line so that Mermaid shows it unchanged.
///
/// Mermaid reads a label as Markdown and as HTML, drops `%%{..}%%`, and corrupts entities on a line with `style` and a
/// colon. So everything but letters and digits becomes an entity, except where it is harmless in its context. Some
/// things are detected even then: formulas (`$$`), icons (`fa:fa-car`), and the placeholders that Mermaid itself
/// substitutes for entities. A character without width breaks them up.
fn escaped(line: &str) -> String {
    const WORD_JOINER: &str = "\u{2060}";
    let mut escaped = String::with_capacity(line.len());
    let mut before = None;
    let mut rest = line.chars().map(visible).peekable();
    while let Some(c) = rest.next() {
        let after = rest.peek().copied();
        let is_between = |kind: fn(char) -> bool| before.is_some_and(kind) && after.is_some_and(kind);
        let is_harmless = match c {
            ' ' => is_between(|c| c != ' '),
            '-' | '_' => is_between(char::is_alphanumeric),
            '.' => is_between(|c| c.is_ascii_digit()),
            ',' => before.is_some_and(|c| c.is_alphanumeric() || c == '%'),
            ':' => before.is_some_and(char::is_alphanumeric) && after == Some(' '),
            '%' => before.is_some_and(|c| c == ' ' || c.is_ascii_digit()) && matches!(after, None | Some(',')),
            _ => c.is_alphanumeric(),
        };
        if is_harmless {
            escaped.push(c);
        } else {
            _ = write!(escaped, "#{};", c as u32);
        }
        if matches!((c, after), ('$', Some('$')) | (':', Some('f')) | ('ﬂ', Some('°')) | ('¶', Some('ß'))) {
            escaped.push_str(WORD_JOINER);
        }
        before = Some(c);
    }
    escaped
}
