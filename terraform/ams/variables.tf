variable "app_name" {
  description = "Name of the application in the model."
  type        = string
  default     = "ams"
}

variable "model_uuid" {
  description = "UUID of the model to deploy into."
  type        = string
}

variable "charm_name" {
  description = "Name under which the charm was uploaded to Charmhub."
  type        = string
  default     = "ams"
}

variable "channel" {
  description = "Charmhub channel of the charm."
  type        = string
  default     = "latest/stable"
}

variable "revision" {
  description = "Revision of the charm; null takes the channel's newest at first deployment."
  type        = number
  default     = null
}

variable "base" {
  description = "Base of the units: ubuntu@24.04, or ubuntu@22.04 on amd64."
  type        = string
  default     = "ubuntu@24.04"

  validation {
    condition     = contains(["ubuntu@24.04", "ubuntu@22.04"], var.base)
    error_message = "The charm is packed for ubuntu@24.04 and ubuntu@22.04."
  }
}

variable "units" {
  description = "Number of units. Each is a site of its own; with database and object_storage integrated they are one."
  type        = number
  default     = 1
}

variable "constraints" {
  description = "Constraints on the machines, such as \"mem=4G root-disk=100G\"."
  type        = string
  default     = null
}

variable "config" {
  description = "Options of the charm, as `juju config` takes them."
  type        = map(string)
  default     = {}
}
