//! Steps of whole processes: one forks, one ends.

use std::sync::Arc;

use super::super::ast::Name;
use super::super::text::Invalid;
use super::env::{Buffer, Key, Viewed, inherited, key_text};
use super::stop::Stop;
use super::{Runner, Words};
use crate::host::Process;
use crate::machine::Model;

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    /// The process of a context, or one that forked off.
    pub(super) fn process(&mut self, name: &Name) -> Result<Arc<Process>, Stop> {
        let key = self.key(name)?;
        match self.env.children.get(&key) {
            Some(child) => Ok(Arc::clone(child)),
            None => Ok(Arc::clone(&self.file(name)?.process)),
        }
    }

    /// The views that a process has.
    fn views_of(&self, process: &Arc<Process>) -> Vec<Key> {
        let all = self.env.views.iter();
        let own = all.filter(|(_, viewed)| Arc::ptr_eq(viewed.mapping().process(), process));
        own.map(|(key, _)| key.clone()).collect()
    }

    /// A child with all the memory of its parent, and a copy of each of its views.
    pub(super) fn fork(&mut self, parent: &Name, child: &Name) -> Words {
        let (process, place) = (self.process(parent)?, self.key(child)?);
        let forked = process.fork();
        let forked = Arc::new(forked.map_err(|error| Invalid::new(parent.span, error))?);
        self.processes.push(Arc::clone(&forked));
        let buffers = self.env.buffers.iter();
        let own = buffers.filter(|(_, buffer)| Arc::ptr_eq(&buffer.process, &process));
        let copies: Vec<_> = own
            .map(|(key, buffer)| {
                let process = Arc::clone(&forked);
                let copy = Buffer { process, ..*buffer };
                (inherited(key, &place), copy)
            })
            .collect();
        let mut words = format!("{} buffers", copies.len());
        self.env.buffers.extend(copies);
        let views = self.views_of(&process);
        words += &format!(", {} views", views.len());
        for key in views {
            self.copy_view(parent, &key, &forked, &place)?;
        }
        self.env.children.insert(place, forked);
        Ok(words)
    }

    fn copy_view(
        &mut self,
        parent: &Name,
        key: &Key,
        child: &Arc<Process>,
        place: &Key,
    ) -> Result<(), Stop> {
        let Some(viewed) = self.env.views.get(key) else {
            return Ok(());
        };
        let mapping = viewed.mapping().fork(child);
        let mapping = mapping.map_err(|error| Invalid::new(parent.span, error))?;
        let device = &self.machine().device;
        let copy = Viewed {
            view: device
                .copy_view(&viewed.view, viewed.view.pages(), mapping)
                .expect("the view is of this device"),
            gone: viewed.gone.clone(),
        };
        self.env.views.insert(inherited(key, place), Arc::new(copy));
        Ok(())
    }

    /// All memory of a process goes, and what it was shown.
    pub(super) fn exit(&mut self, name: &Name) -> Words {
        let process = self.process(name)?;
        for key in self.views_of(&process) {
            let viewed = self.env.views.remove(&key);
            let Some(Viewed { view, .. }) = viewed.and_then(Arc::into_inner) else {
                let message = format_args!("a ring still uses the view `{}`", key_text(&key));
                return Err(Invalid::new(name.span, message).into());
            };
            self.machine()
                .device
                .end_view(view)
                .expect("the view is of this device");
        }
        process.exit();
        let key = self.key(name)?;
        self.env.children.remove(&key);
        Ok("exited".to_owned())
    }
}
