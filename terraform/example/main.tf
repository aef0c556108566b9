# One registry, one publisher, two clients: the same as bundle.yaml.

resource "juju_model" "registry" {
  name = var.model
}

module "aar" {
  source     = "../aar"
  model_uuid = juju_model.registry.uuid
  channel    = var.channel
}

module "publisher" {
  source     = "../ams"
  app_name   = "publisher"
  model_uuid = juju_model.registry.uuid
  channel    = var.channel
}

module "client" {
  source   = "../ams"
  for_each = var.clients

  app_name   = each.value
  model_uuid = juju_model.registry.uuid
  channel    = var.channel
}

resource "juju_integration" "publisher" {
  model_uuid = juju_model.registry.uuid

  application {
    name     = module.aar.app_name
    endpoint = module.aar.provides.publisher
  }

  application {
    name     = module.publisher.app_name
    endpoint = module.publisher.requires.publisher
  }
}

resource "juju_integration" "client" {
  for_each   = module.client
  model_uuid = juju_model.registry.uuid

  application {
    name     = module.aar.app_name
    endpoint = module.aar.provides.client
  }

  application {
    name     = each.value.app_name
    endpoint = each.value.requires.client
  }
}
