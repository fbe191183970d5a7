// SPDX-License-Identifier: GPL-2.0

//! Gathers what a file defines and which paths it names, wherever they stand: imports, types,
//! expressions, attributes, and the arguments of macros, which are read as text.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, GenericArgument, Ident, Item, ItemImpl, Lit, Meta, PathArguments, Token, Type,
    UseTree,
};

use crate::scope::{Call, Impl, Macro, Module, ModuleId, Named, Segments};

/// First segments of an attribute that name a tool or are Rust's own.
const TOOLS: [&str; 3] = ["clippy", "rustfmt", "rustdoc"];

/// A module that a file declares and another holds.
#[derive(Debug)]
pub struct Declared {
    /// The module that declares it.
    pub parent: ModuleId,
    /// Its name.
    pub name: String,
    /// What its attribute `path` says.
    pub path: Option<String>,
    /// What such an attribute says where a feature asks for it.
    pub chosen: Vec<String>,
    /// The modules of the same file around the declaration.
    pub inside: Vec<String>,
}

/// What was gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    /// All modules.
    pub modules: Vec<Module>,
    /// All paths.
    pub named: Vec<Named>,
    /// All `impl`s.
    pub impls: Vec<Impl>,
    /// All macros by example.
    pub macros: Vec<Macro>,
    /// All calls of macros.
    pub calls: Vec<Call>,
    /// Files without an opening comment.
    pub undocumented: BTreeSet<String>,
}

/// Reads one file as `module`; returns the modules that other files hold.
pub fn read_file(all: &mut Gathered, module: ModuleId, text: &str) -> syn::Result<Vec<Declared>> {
    let file = syn::parse_file(text)?;
    if !file.attrs.iter().any(is_doc) {
        all.undocumented.insert(all.modules[module].file.clone());
    }
    let mut reader = Reader {
        all,
        module,
        inside: Vec::new(),
        declared: Vec::new(),
    };
    reader.visit_file(&file);
    Ok(reader.declared)
}

fn is_doc(attribute: &Attribute) -> bool {
    attribute.path().is_ident("doc")
}

/// An identifier as a name: `r#type` is `type`.
fn name(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").unwrap_or(&text).to_owned()
}

fn segments(path: &syn::Path) -> Segments {
    path.segments.iter().map(|s| name(&s.ident)).collect()
}

struct Reader<'a> {
    all: &'a mut Gathered,
    module: ModuleId,
    inside: Vec<String>,
    declared: Vec<Declared>,
}

impl Reader<'_> {
    fn here(&mut self) -> &mut Module {
        &mut self.all.modules[self.module]
    }

    fn define(&mut self, ident: &Ident) {
        let ident = name(ident);
        self.here().items.insert(ident);
    }

    fn note(&mut self, path: Segments, line: usize, is_guess: bool) {
        self.all.named.push(Named {
            module: self.module,
            path,
            line,
            is_guess,
        });
    }

    /// Notes a tree of imports below `prefix`.
    fn import(&mut self, prefix: &[String], tree: &UseTree) {
        let line = tree.span().start().line;
        let with = |ident: &Ident| {
            let last = name(ident);
            let mut path = prefix.to_vec();
            // `a::{self}` is a itself.
            if last != "self" || path.is_empty() {
                path.push(last);
            }
            path
        };
        match tree {
            UseTree::Path(part) => self.import(&with(&part.ident), &part.tree),
            UseTree::Group(group) => {
                for item in &group.items {
                    self.import(prefix, item);
                }
            }
            UseTree::Glob(_) => {
                self.here().globs.push(prefix.to_vec());
                self.note(prefix.to_vec(), line, false);
            }
            UseTree::Name(part) => {
                let path = with(&part.ident);
                self.imported(path.last().cloned(), path, line);
            }
            UseTree::Rename(part) => {
                self.imported(Some(name(&part.rename)), with(&part.ident), line)
            }
        }
    }

    fn imported(&mut self, called: Option<String>, path: Segments, line: usize) {
        if let Some(called) = called {
            self.here().imports.push((called, path.clone()));
        }
        self.note(path, line, false);
    }

    /// Notes what stands in tokens that nobody has parsed.
    fn text(&mut self, tokens: TokenStream, is_guess: bool) {
        for (path, line) in paths_in(tokens.clone()) {
            self.note(path, line, is_guess);
        }
        self.impls_in(tokens);
    }

    /// Notes `impl`s in the arguments of a macro.
    fn impls_in(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => self.impls_in(group.stream()),
                TokenTree::Ident(word) if word == "impl" => {
                    let head = std::iter::from_fn(|| {
                        tokens.next_if(|t| {
                            !matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace)
                        })
                    });
                    self.head(word.span().start().line, head.collect());
                }
                _ => {}
            }
        }
    }

    /// Notes the `impl` of this head, if it is one.
    fn head(&mut self, line: usize, head: TokenStream) {
        let whole = quote_impl(head);
        if let Ok(item) = syn::parse2::<ItemImpl>(whole) {
            self.note_impl(line, &item);
        }
    }

    fn note_impl(&mut self, line: usize, item: &ItemImpl) {
        let generic: Vec<_> = item
            .generics
            .type_params()
            .map(|p| name(&p.ident))
            .collect();
        let on = type_path(&item.self_ty).filter(|path| !generic.contains(&path[0]));
        self.all.impls.push(Impl {
            module: self.module,
            of: item.trait_.as_ref().map(|of| segments(&of.0)),
            given: item.trait_.iter().flat_map(|of| given(&of.0)).collect(),
            on,
            line,
        });
    }
}

/// Head of an `impl`, with an empty body.
fn quote_impl(head: TokenStream) -> TokenStream {
    let body = proc_macro2::Group::new(Delimiter::Brace, TokenStream::new());
    let word = TokenTree::Ident(Ident::new("impl", proc_macro2::Span::call_site()));
    std::iter::once(word)
        .chain(head)
        .chain([TokenTree::Group(body)])
        .collect()
}

/// The path of a type, behind references.
fn type_path(of: &Type) -> Option<Segments> {
    match of {
        Type::Path(of) => Some(segments(&of.path)),
        Type::Reference(of) => type_path(&of.elem),
        Type::Paren(of) => type_path(&of.elem),
        Type::Group(of) => type_path(&of.elem),
        _ => None,
    }
}

/// The types that a trait is given.
fn given(of: &syn::Path) -> Vec<Segments> {
    let arguments = of.segments.last().map(|last| &last.arguments);
    let Some(PathArguments::AngleBracketed(arguments)) = arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(of) => type_path(of),
        _ => None,
    });
    types.collect()
}

/// The paths of two segments and more that stand in tokens.
fn paths_in(tokens: TokenStream) -> Vec<(Segments, usize)> {
    let mut found = Vec::new();
    scan(tokens, &[], &mut found);
    found
}

/// Finds paths; the first of each piece between commas goes on from `prefix`.
fn scan(tokens: TokenStream, prefix: &[String], found: &mut Vec<(Segments, usize)>) {
    let mut path: Segments = prefix.to_vec();
    let mut colons = !prefix.is_empty();
    let mut dollar = false;
    let mut line = 0;
    let end = |path: &mut Segments, line: usize, found: &mut Vec<_>| {
        let whole = std::mem::take(path);
        if whole.len() > 1 {
            found.push((whole, line));
        }
    };
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = tokens.iter().peekable();
    while let Some(token) = at.next() {
        match token {
            TokenTree::Ident(ident) => {
                let word = name(ident);
                if !colons {
                    end(&mut path, line, found);
                }
                line = ident.span().start().line;
                match (dollar, word.as_str()) {
                    (true, "crate") => path.push("$crate".to_owned()),
                    // What stands for something else is named where it is given.
                    (true, _) => path.clear(),
                    // `a::{self}` is a itself.
                    (_, "self") if !path.is_empty() => found.push((path.clone(), line)),
                    _ => path.push(word),
                }
                colons = false;
                dollar = false;
            }
            TokenTree::Punct(punct)
                if punct.as_char() == ':' && punct.spacing() == Spacing::Joint =>
            {
                if matches!(at.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':') {
                    at.next();
                    colons = true;
                }
            }
            TokenTree::Punct(punct) => {
                // `a::*` names a.
                end(&mut path, line, found);
                colons = false;
                dollar = punct.as_char() == '$';
                if punct.as_char() == ',' && !prefix.is_empty() {
                    path = prefix.to_vec();
                    colons = true;
                }
            }
            TokenTree::Group(group) => {
                let is_tree = colons && group.delimiter() == Delimiter::Brace && !path.is_empty();
                let below = if is_tree {
                    std::mem::take(&mut path)
                } else {
                    Vec::new()
                };
                end(&mut path, line, found);
                scan(group.stream(), &below, found);
                colons = false;
                dollar = false;
            }
            TokenTree::Literal(_) => {
                end(&mut path, line, found);
                colons = false;
            }
        }
    }
    // The prefix alone is named by nothing.
    if path.len() > prefix.len() || prefix.is_empty() {
        end(&mut path, line, found);
    }
}

/// The strings in tokens.
fn strings_in(tokens: TokenStream) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(strings_in(group.stream())),
            TokenTree::Literal(literal) => {
                let line = literal.span().start().line;
                if let Lit::Str(text) = Lit::new(literal) {
                    found.push((text.value(), line));
                }
            }
            _ => {}
        }
    }
    found
}

/// What an attribute `path` says.
fn path_of(meta: &Meta) -> Option<String> {
    let Meta::NameValue(pair) = meta else {
        return None;
    };
    match &pair.value {
        Expr::Lit(value) if pair.path.is_ident("path") => match &value.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// What attributes `path` say that depend on something.
fn chosen(attribute: &Attribute) -> Vec<String> {
    let parse = Punctuated::<Meta, Token![,]>::parse_terminated;
    match attribute.path().is_ident("cfg_attr") {
        true => attribute
            .parse_args_with(parse)
            .map(|all| all.iter().skip(1).filter_map(path_of).collect())
            .unwrap_or_default(),
        false => Vec::new(),
    }
}

/// Whether an item is there in tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        _ => false,
    })
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Const(of) => self.define(&of.ident),
            Item::Enum(of) => self.define(&of.ident),
            Item::Fn(of) => self.define(&of.sig.ident),
            Item::Static(of) => self.define(&of.ident),
            Item::Struct(of) => self.define(&of.ident),
            Item::Trait(of) => self.define(&of.ident),
            Item::TraitAlias(of) => self.define(&of.ident),
            Item::Type(of) => self.define(&of.ident),
            Item::Union(of) => self.define(&of.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // The tests of a file stand above it, in the same text: what they name does not count.
        if is_test(&item.attrs) && item.content.is_some() {
            return;
        }
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
        let called = name(&item.ident);
        let Some((_, items)) = &item.content else {
            let path = item.attrs.iter().find_map(|a| path_of(&a.meta));
            let chosen = item.attrs.iter().flat_map(chosen).collect();
            self.declared.push(Declared {
                parent: self.module,
                name: called,
                path,
                chosen,
                inside: self.inside.clone(),
            });
            return;
        };
        let above = self.module;
        let new = Module {
            krate: self.here().krate,
            file: self.here().file.clone(),
            parent: Some(above),
            ..Module::default()
        };
        self.all.modules.push(new);
        let below = self.all.modules.len() - 1;
        let children = &mut self.here().children;
        children.entry(called.clone()).or_default().push(below);
        self.module = below;
        self.inside.push(called);
        for item in items {
            self.visit_item(item);
        }
        self.inside.pop();
        self.module = above;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_test(&item.attrs) {
            return;
        }
        self.import(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let called = item.rename.as_ref().map_or(&item.ident, |(_, name)| name);
        let path = match name(&item.ident).as_str() {
            "self" => vec!["crate".to_owned()],
            other => vec![other.to_owned()],
        };
        self.imported(Some(name(called)), path, item.span().start().line);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.note_impl(item.impl_token.span().start().line, item);
        visit::visit_item_impl(self, item);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        let Some(ident) = &item.ident else {
            return visit::visit_item_macro(self, item);
        };
        self.define(ident);
        let paths = paths_in(item.mac.tokens.clone());
        self.all.macros.push(Macro {
            name: name(ident),
            module: self.module,
            paths: paths.into_iter().map(|(path, _)| path).collect(),
        });
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let line = call.path.span().start().line;
        self.all.calls.push(Call {
            module: self.module,
            path: segments(&call.path),
            line,
        });
        self.text(call.tokens.clone(), false);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if is_doc(attribute) {
            return;
        }
        let path = segments(attribute.path());
        let line = attribute.span().start().line;
        if path.len() > 1 && !TOOLS.contains(&path[0].as_str()) {
            self.note(path, line, false);
        }
        let tokens = match &attribute.meta {
            Meta::List(list) => list.tokens.clone(),
            Meta::NameValue(_) | Meta::Path(_) => return,
        };
        for (path, line) in paths_in(tokens.clone()) {
            if !TOOLS.contains(&path[0].as_str()) {
                self.note(path, line, false);
            }
        }
        for (text, line) in strings_in(tokens) {
            if let Ok(path) = syn::parse_str::<syn::Path>(&text) {
                self.note(segments(&path), line, true);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.note(segments(path), path.span().start().line, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}
