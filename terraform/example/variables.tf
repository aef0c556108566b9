variable "model" {
  description = "Name of the model to create."
  type        = string
  default     = "registry"
}

variable "channel" {
  description = "Charmhub channel of both charms."
  type        = string
  default     = "latest/stable"
}

variable "clients" {
  description = "Names of the sites that mirror the registry."
  type        = set(string)
  default     = ["client-a", "client-b"]
}

variable "registry_units" {
  description = "Number of units of the registry; several need both of the next two."
  type        = number
  default     = 1
}

variable "database" {
  description = "Application in the model that provides postgresql_client as `database`, such as postgresql."
  type        = string
  default     = null
}

variable "object_storage" {
  description = "Application in the model that provides s3 as `s3-credentials`, such as s3-integrator."
  type        = string
  default     = null
}
