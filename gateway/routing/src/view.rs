//! What one request sees of the routes.

use crate::alias::Alias;
use crate::deployment::RoutedDeployment;
use crate::facts::RoutingFacts;
use crate::priors::{Priors, TrustedPriors};
use crate::routes::Routes;

/// One configuration and one table. A request keeps them from its plan to its last attempt.
#[derive(Debug, Clone, Copy)]
pub struct RoutingView<'a> {
    pub(crate) routes: &'a Routes,
    pub(crate) priors: &'a Priors,
}

impl Routes {
    /// The view for one request.
    pub fn view<'a>(&'a self, priors: &'a Priors) -> RoutingView<'a> {
        RoutingView {
            routes: self,
            priors,
        }
    }
}

/// What one decision reads: an alias, as a view shows it at one time.
#[derive(Clone, Copy)]
pub(crate) struct AliasView<'a> {
    pub(crate) view: RoutingView<'a>,
    pub(crate) alias: &'a Alias,
    pub(crate) now_us: u64,
}

impl<'a> RoutingView<'a> {
    pub(crate) fn at(self, alias: &'a Alias, now_us: u64) -> AliasView<'a> {
        AliasView {
            view: self,
            alias,
            now_us,
        }
    }
}

impl<'a> AliasView<'a> {
    /// The deployment of one of the alias's targets.
    pub(crate) fn deployment(self, target: usize) -> &'a RoutedDeployment {
        let target = self.alias.targets[target];
        self.view.routes.deployment(target.deployment)
    }

    /// What the table says about the alias.
    pub(crate) fn priors(self) -> TrustedPriors<'a> {
        let RoutingView { routes, priors } = self.view;
        priors.trusted(routes, self.alias, self.now_us)
    }
}

/// The inputs of a choice.
pub(crate) struct Choice<'a> {
    pub(crate) at: AliasView<'a>,
    pub(crate) facts: &'a RoutingFacts,
    pub(crate) priors: TrustedPriors<'a>,
}
