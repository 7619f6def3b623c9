foreach(name predictions scorers task)
  vi_test(eval/${name}_test LABELS cpu DEPS vi_eval_text)
endforeach()
