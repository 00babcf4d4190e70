//! What is wrong with a topology, in a form for people and for programs.

use std::fmt;
use std::sync::Arc;

use miette::{LabeledSpan, MietteError, MietteSpanContents, NamedSource, SourceCode, SourceSpan, SpanContents};
use serde::Serialize;

use super::source::{Source, Span};

/// One mistake.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnostic {
    /// The file.
    pub file: String,
    /// Line, counted from 1; 0 if the mistake is nowhere in particular.
    pub line: usize,
    /// Column in characters, counted from 1; 0 if the mistake is nowhere in particular.
    pub column: usize,
    /// The line itself; of a very long one what is around the column.
    pub source_line: String,
    /// What is wrong.
    pub message: String,
    /// What to point out at that place.
    pub label: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Another place that belongs to it: what it is, line and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<Related>,
    #[serde(skip)]
    span: Option<Span>,
    #[serde(skip)]
    code: Option<Code>,
}

/// What is shown of the text.
#[derive(Clone, Debug)]
enum Code {
    /// As much as fits around the places.
    Whole(Arc<NamedSource<String>>),
    /// A piece of one line: very long ones cannot be drawn whole.
    Piece(Piece),
}

#[derive(Clone, Debug)]
struct Piece {
    name: String,
    text: String,
    line: usize,
    column: usize,
}

impl SourceCode for Piece {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        if span.offset() + span.len() > self.text.len() {
            return Err(MietteError::OutOfBounds);
        }
        // Without context only the header asks: it wants the place itself.
        let (start, column) = if before == 0 && after == 0 {
            (span.offset(), self.column + self.text[..span.offset()].chars().count())
        } else {
            (0, self.column)
        };
        let all = SourceSpan::from((start, self.text.len() - start));
        let data = &self.text.as_bytes()[start..];
        Ok(Box::new(MietteSpanContents::new_named(self.name.clone(), data, all, self.line, column, 1)))
    }
}

/// Another place that belongs to a mistake.
#[derive(Clone, Debug, Serialize)]
pub struct Related {
    /// What is there.
    pub label: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    #[serde(skip)]
    span: Span,
}

impl Diagnostic {
    /// A mistake of the whole file, without a place in it.
    pub fn of_file(file: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            file: file.to_owned(),
            line: 0,
            column: 0,
            source_line: String::new(),
            message: message.into(),
            label: String::new(),
            help: None,
            related: None,
            span: None,
            code: None,
        }
    }

    /// A mistake at `span`.
    pub fn at(source: &Source, span: Span, message: impl Into<String>, label: impl Into<String>) -> Diagnostic {
        let (line, column) = source.line_column(span.start);
        Diagnostic {
            file: source.name().to_owned(),
            line,
            column,
            source_line: source.excerpt(span.start).0.to_owned(),
            message: message.into(),
            label: label.into(),
            help: None,
            related: None,
            span: Some(span),
            code: None,
        }
    }

    /// Adds what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Adds another place that belongs to it.
    pub fn related(mut self, source: &Source, span: Span, label: impl Into<String>) -> Diagnostic {
        let (line, column) = source.line_column(span.start);
        self.related = Some(Related { label: label.into(), line, column, span });
        self
    }

    fn attach(&mut self, source: &Source, code: &Arc<NamedSource<String>>) {
        let Some(span) = self.span else { return };
        let other = self.related.as_ref().map(|related| related.span);
        if !source.is_long_around(span.start) && !other.is_some_and(|other| source.is_long_around(other.start)) {
            self.code = Some(Code::Whole(Arc::clone(code)));
            return;
        }
        let (text, start) = source.excerpt(span.start);
        let (line, column) = source.line_column(start);
        let within = |offset: usize| offset.saturating_sub(start).min(text.len());
        self.span = Some(Span { start: within(span.start), end: within(span.end).max(within(span.start)) });
        if let Some(related) = &self.related {
            let place = format!("{} ({}:{})", related.label, related.line, related.column);
            self.label = if self.label.is_empty() { place } else { format!("{}, {place}", self.label) };
        }
        let (name, text) = (source.name().to_owned(), text.to_owned());
        self.code = Some(Code::Piece(Piece { name, text, line: line - 1, column: column - 1 }));
    }

    fn sort_key(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

impl miette::Diagnostic for Diagnostic {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self.code.as_ref()? {
            Code::Whole(code) => Some(&**code as &dyn SourceCode),
            Code::Piece(piece) => Some(piece),
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span?;
        let label = (!self.label.is_empty()).then(|| self.label.clone());
        let own = LabeledSpan::new_primary_with_span(label, (span.start, span.end - span.start));
        let whole = matches!(self.code, Some(Code::Whole(_)));
        let other = self.related.as_ref().filter(|_| whole).map(|related| {
            LabeledSpan::new(Some(related.label.clone()), related.span.start, related.span.end - related.span.start)
        });
        Some(Box::new(std::iter::once(own).chain(other)))
    }
}

/// Every mistake that was found, at least one, in the order of the text.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnostics {
    /// The mistakes.
    pub errors: Vec<Diagnostic>,
    /// How many more there are that are not listed.
    pub more: usize,
}

impl Diagnostics {
    /// At most this many mistakes are listed; the rest is counted.
    pub const MAX_LISTED: usize = 50;

    /// Sorts `errors`, drops repetitions and attaches the text they are about.
    pub fn new(source: Option<&Source>, mut errors: Vec<Diagnostic>) -> Diagnostics {
        errors.sort_by_key(Diagnostic::sort_key);
        errors.dedup_by(|a, b| a.sort_key() == b.sort_key() && a.message == b.message);
        let more = errors.len().saturating_sub(Self::MAX_LISTED);
        errors.truncate(Self::MAX_LISTED);
        if let Some(source) = source {
            let code = Arc::new(NamedSource::new(source.name(), source.text().to_owned()));
            for error in &mut errors {
                error.attach(source, &code);
            }
        }
        Diagnostics { errors, more }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(error: Diagnostic) -> Diagnostics {
        Diagnostics { errors: vec![error], more: 0 }
    }
}

impl Diagnostics {
    /// The mistake, if it is the only one: it then speaks for itself.
    fn only(&self) -> Option<&Diagnostic> {
        match &self.errors[..] {
            [only] if self.more == 0 => Some(only),
            _ => None,
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(only) = self.only() {
            return only.fmt(f);
        }
        let file = self.errors.first().map_or("the topology", |error| error.file.as_str());
        write!(f, "{file} has {} mistakes", self.errors.len() + self.more)?;
        if self.more > 0 {
            write!(f, ", of which {} are shown", self.errors.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl miette::Diagnostic for Diagnostics {
    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.only()?.help()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.only()?.source_code()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.only()?.labels()
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        if self.only().is_some() {
            return None;
        }
        Some(Box::new(self.errors.iter().map(|error| error as &dyn miette::Diagnostic)))
    }
}

/// The one of `known` that `word` was probably meant to be.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        // Enough to be helpful, few enough to be quick whatever the topology.
        .take(2000)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            let length = candidate.chars().count();
            *distance < length && *distance <= length.max(3) / 3
        })
        // By name where the distance is the same, so that the answer is always the same.
        .min()
        .map(|(_, candidate)| candidate)
}

/// A suggestion for `word`, which is none of `known`.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(candidate) = did_you_mean(word, known.clone()) {
        return format!("did you mean `{candidate}`?");
    }
    let mut all: Vec<&str> = known.into_iter().collect();
    all.sort_unstable();
    match all.len() {
        0 => "the topology has none yet: write it, or leave the name out".to_owned(),
        1 => format!("there is only `{}`", all[0]),
        2..=40 => format!("there are {}", all.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
        count => format!("there are {count} to choose from, none of them similar"),
    }
}
