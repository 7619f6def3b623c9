#include "core/chat/chat_template.h"

#include "core/chat/jinja.h"
#include "core/common/error.h"

namespace vi::model {

struct ChatTemplate::Impl {
  jinja::Template program;
};

ChatTemplate::ChatTemplate(std::string_view source, std::string_view place)
    : impl_(new Impl{jinja::Template(source, place)}) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

std::string ChatTemplate::render_json(const Json& messages, const ChatOptions& options) const {
  VI_CHECK(messages.is_array(), "chat messages are a list");
  Json variables = {
      {"messages", messages},           {"tools", options.tools},
      {"documents", nullptr},           {"add_generation_prompt", options.add_generation_prompt},
      {"bos_token", options.bos_token}, {"eos_token", options.eos_token}};
  for (const auto& [key, value] : options.variables.items()) variables[key] = value;
  return impl_->program.render(variables, options.now);
}

std::string ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                 const ChatOptions& options) const {
  Json list = Json::array();
  for (const ChatMessage& m : messages) list.push_back({{"role", m.role}, {"content", m.content}});
  return render_json(list, options);
}

}  // namespace vi::model
