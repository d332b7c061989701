//! What a template may be made of: a list of what is allowed, so that nothing else is, whatever the engine learns to do.
//!
//! Nothing that is allowed makes long text of short: there is no adding, multiplying or joining of texts, no capturing of output, and
//! no list but one of constants. So what a template holds in memory is what it was given, what it says itself, and what its filters
//! make, which have limits. How deep a text is nested is known before it is parsed, since whoever parses or runs it goes as deep.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, ForLoop, Stmt};
use minijinja::machinery::{Span, Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::filters::{FILTERS, TESTS};
use super::{KNOWN, MAX_TEMPLATE_BYTES, NAME, TemplateError};

/// How many words and signs a tag may have.
const MAX_TOKENS: usize = 150;
/// How many tags with a statement there may be.
const MAX_STATEMENTS: usize = 200;
/// How deep statements may stand in each other.
const MAX_NESTING: usize = 10;
/// What a loop knows of itself.
const LOOP: &str = "loop";

/// Checks a template, and returns the parameters that it names. Errors: the first thing that is not allowed.
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<BTreeSet<String>, TemplateError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::without_place(format!("must be at most {MAX_TEMPLATE_BYTES} bytes")));
    }
    if let Some(offset) = source.find('\0') {
        return Err(TemplateError::at(source, offset, "must not contain the character NUL"));
    }
    measure(source, syntax)?;
    let parsed = parse(source, NAME, syntax.clone()).map_err(|error| TemplateError::of(&error, source))?;
    let mut names = Names::default();
    let mut checker = Checker { source, names: &mut names, depth: 0 };
    checker.statement(&parsed)?;
    names.unknown(source)?;
    Ok(names.parameters)
}

/// How much is in each tag, and how many there are.
fn measure(source: &str, syntax: &SyntaxConfig) -> Result<(), TemplateError> {
    let (mut tokens, mut statements) = (0, 0);
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token.map_err(|error| TemplateError::of(&error, source))?;
        match token {
            Token::TemplateData(_) | Token::VariableStart => tokens = 0,
            Token::BlockStart => (tokens, statements) = (0, statements + 1),
            _ => tokens += 1,
        }
        if tokens > MAX_TOKENS {
            return Err(refused(source, span, format!("a tag must have at most {MAX_TOKENS} words and signs")));
        }
        if statements > MAX_STATEMENTS {
            return Err(refused(source, span, format!("there must be at most {MAX_STATEMENTS} statements")));
        }
    }
    Ok(())
}

fn refused(source: &str, span: Span, sentence: impl Into<String>) -> TemplateError {
    TemplateError::at(source, offset(span), sentence)
}

fn offset(span: Span) -> usize {
    usize::try_from(span.start_offset).unwrap_or(usize::MAX)
}

/// The names that a template uses, with where it does first, and those that it gives.
#[derive(Default)]
struct Names {
    used: Vec<(String, usize)>,
    given: BTreeSet<String>,
    parameters: BTreeSet<String>,
}

impl Names {
    /// A name that nobody gave is a mistake in writing.
    fn unknown(&self, source: &str) -> Result<(), TemplateError> {
        let is_known = |name: &str| KNOWN.contains(&name) || self.given.contains(name);
        match self.used.iter().find(|(name, _)| !is_known(name)) {
            Some((name, offset)) => {
                Err(TemplateError::at(source, *offset, format!("there is no {name}; there are {}", KNOWN.join(", "))))
            }
            None => Ok(()),
        }
    }
}

struct Checker<'a> {
    source: &'a str,
    names: &'a mut Names,
    depth: usize,
}

type Checked = Result<(), TemplateError>;

impl Checker<'_> {
    fn refuse(&self, span: Span, sentence: impl Into<String>) -> Checked {
        Err(refused(self.source, span, sentence))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Checked {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr)?;
                self.nested(condition.span(), &condition.true_body)?;
                self.otherwise(condition.span(), &condition.false_body)
            }
            Stmt::ForLoop(each) => self.each(each, each.span()),
            Stmt::Set(set) => {
                self.target(&set.target)?;
                self.expression(&set.expr)
            }
            Stmt::WithBlock(with) => self.refuse(with.span(), "with is not allowed: use set"),
            Stmt::SetBlock(set) => self.refuse(set.span(), "set needs a value: what is between tags can't be kept"),
            Stmt::AutoEscape(block) => {
                self.refuse(block.span(), "autoescape is not allowed: values are escaped as the content type needs it")
            }
            Stmt::FilterBlock(block) => self.refuse(block.span(), "filter is not allowed as a tag: put filters behind values"),
            Stmt::Do(block) => self.refuse(block.span(), "do is not allowed"),
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) -> Checked {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn nested(&mut self, span: Span, statements: &[Stmt<'_>]) -> Checked {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return self.refuse(span, format!("statements may stand {MAX_NESTING} deep in each other"));
        }
        self.statements(statements)?;
        self.depth -= 1;
        Ok(())
    }

    /// An `elif` is a condition within what is otherwise, and no deeper for whoever reads it.
    fn otherwise(&mut self, span: Span, statements: &[Stmt<'_>]) -> Checked {
        match statements {
            [Stmt::IfCond(_)] => self.statements(statements),
            statements => self.nested(span, statements),
        }
    }

    fn each(&mut self, each: &ForLoop<'_>, span: Span) -> Checked {
        if each.recursive {
            return self.refuse(span, "a loop can't be recursive");
        }
        self.target(&each.target)?;
        self.names.given.insert(LOOP.to_owned());
        self.expression(&each.iter)?;
        each.filter_expr.iter().try_for_each(|filter| self.expression(filter))?;
        self.nested(span, &each.body)?;
        self.nested(span, &each.else_body)
    }

    /// What is given a name: a name, or several for the parts of a pair.
    fn target(&mut self, target: &Expr<'_>) -> Checked {
        match target {
            Expr::Var(name) if KNOWN.contains(&name.id) => self.refuse(name.span(), format!("{} is the event's own", name.id)),
            Expr::Var(name) => {
                self.names.given.insert(name.id.to_owned());
                Ok(())
            }
            target => self.refuse(target.span(), "only a name can be set"),
        }
    }

    fn expression(&mut self, expression: &Expr<'_>) -> Checked {
        match expression {
            Expr::Var(name) => {
                self.names.used.push((name.id.to_owned(), offset(name.span())));
                Ok(())
            }
            Expr::Const(_) => Ok(()),
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => {
                self.operator(operation.op, operation.span())?;
                self.expression(&operation.left)?;
                self.expression(&operation.right)
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr)?;
                compare.ops.iter().try_for_each(|operation| self.expression(&operation.expr))
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr)?;
                self.expression(&choice.true_expr)?;
                choice.false_expr.iter().try_for_each(|other| self.expression(other))
            }
            Expr::GetAttr(attribute) => {
                if matches!(&attribute.expr, Expr::Var(name) if name.id == "parameters") {
                    self.names.parameters.insert(attribute.name.to_owned());
                }
                self.expression(&attribute.expr)
            }
            Expr::GetItem(item) => {
                self.expression(&item.expr)?;
                self.expression(&item.subscript_expr)
            }
            Expr::Filter(filter) => {
                self.named(&FILTERS, "filter", filter.name, filter.span())?;
                filter.expr.iter().try_for_each(|value| self.expression(value))?;
                self.arguments(&filter.args, filter.span())
            }
            Expr::Test(test) => {
                self.named(&TESTS, "test", test.name, test.span())?;
                self.expression(&test.expr)?;
                self.arguments(&test.args, test.span())
            }
            Expr::List(list) => self.constants(&list.items, list.span()),
            Expr::Tuple(tuple) => self.constants(&tuple.items, tuple.span()),
            Expr::Slice(slice) => self.refuse(slice.span(), "a part can't be taken like that: use truncate, first or last"),
            Expr::Call(call) => self.refuse(call.span(), "nothing can be called"),
            Expr::Map(map) => self.refuse(map.span(), "an object can't be made within a tag: write it as it is to be sent"),
        }
    }

    fn operator(&self, operator: BinOpKind, span: Span) -> Checked {
        let sign = match operator {
            BinOpKind::Eq | BinOpKind::Ne | BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => return Ok(()),
            BinOpKind::ScAnd | BinOpKind::ScOr | BinOpKind::In => return Ok(()),
            BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem => return Ok(()),
            BinOpKind::Add => "+",
            BinOpKind::Mul => "*",
            BinOpKind::Pow => "**",
            BinOpKind::Concat => "~",
        };
        self.refuse(span, format!("{sign} is not allowed: write one value behind the other"))
    }

    fn named(&self, allowed: &[&str], what: &str, name: &str, span: Span) -> Checked {
        match allowed.contains(&name) {
            true => Ok(()),
            false => self.refuse(span, format!("there is no {what} {name}; there are {}", allowed.join(", "))),
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>], span: Span) -> Checked {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(value) => self.expression(value),
            CallArg::Kwarg(..) | CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                self.refuse(span, "arguments stand behind each other, without names")
            }
        })
    }

    fn constants(&self, items: &[Expr<'_>], span: Span) -> Checked {
        match items.iter().all(|item| matches!(item, Expr::Const(_))) {
            true => Ok(()),
            false => self.refuse(span, "a list can only hold texts and numbers that are written there"),
        }
    }
}
