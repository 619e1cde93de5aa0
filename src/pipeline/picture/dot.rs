//! [`Report::to_dot`].

use std::fmt;

use super::graph::{Graph, Node, PaceMark, Shape};
use super::visible;
use crate::pipeline::Report;

impl Report {
    /// Draws the pipeline in the language of [Graphviz](https://graphviz.org): `dot -Tsvg` converts it to an image.
    ///
    /// It shows the same as [`to_mermaid`](Self::to_mermaid), with the same marks.
    ///
    /// # Examples
    /// ```
    /// use streamz::{Pipeline, Stream};
    ///
    /// let pipeline = Pipeline::new("squares");
    /// Stream::from_iter(&pipeline, 1..=3).map(|n: u32| n * n).spawn_for_each(drop);
    /// let picture = pipeline.join().to_dot();
    /// assert!(picture.contains("s1 [label=\"map\\n3 in, 3 out"), "{picture}");
    /// ```
    pub fn to_dot(&self) -> String {
        Dot(Graph::of(self)).to_string()
    }
}

struct Dot(Graph);

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Graph { title, nodes, links } = &self.0;
        writeln!(f, "digraph {{")?;
        writeln!(f, "    graph [rankdir=LR labelloc=t fontname=\"sans-serif\" label=\"{}\"]", escaped(title))?;
        writeln!(f, "    node [shape=box style=filled fillcolor=white fontname=\"sans-serif\"]")?;
        writeln!(f, "    edge [fontname=\"sans-serif\"]")?;
        for node in nodes {
            writeln!(f, "    s{} [label=\"{}\"{}]", node.id, text(&node.lines), look(node))?;
        }
        for link in links {
            let mark = if link.is_blocking { " color=\"#e03131\" penwidth=3" } else { "" };
            writeln!(f, "    s{} -> s{} [label=\"{}\"{mark}]", link.from, link.to, text(&link.lines))?;
        }
        writeln!(f, "}}")
    }
}

fn look(node: &Node) -> String {
    let shape = match node.shape {
        Shape::Terminal => " style=\"rounded,filled\"",
        Shape::Stage => "",
        Shape::Task => " shape=hexagon",
        Shape::Outside => " style=dashed",
    };
    let fill = match node.pace {
        Some(PaceMark::Bottleneck) => " fillcolor=\"#ffd8a8\"",
        Some(PaceMark::SlowSource | PaceMark::SlowConsumer) => " fillcolor=\"#d0ebff\"",
        None => "",
    };
    let frame = if node.is_waiting { " color=\"#e03131\" penwidth=3" } else { "" };
    format!("{shape}{fill}{frame}")
}

fn text(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| escaped(line)).collect();
    lines.join("\\n")
}

/// A line as a part of a quoted string. Graphviz interprets backslashes and, contrary to its documented grammar, HTML
/// entities.
fn escaped(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for c in line.chars().map(visible) {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '&' => escaped.push_str("&amp;"),
            _ => escaped.push(c),
        }
    }
    escaped
}
